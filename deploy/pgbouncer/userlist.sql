-- The users that PgBouncer lets in, with their SCRAM secrets: no password, but as good as one.
-- Again after each ALTER ROLE ... PASSWORD, and then RELOAD on PgBouncer's console.
--
--   (umask 077; sudo -u postgres psql -X -At -v users=mysite -f userlist.sql > /tmp/userlist.txt)
--   install -o postgres -g postgres -m 600 /tmp/userlist.txt /etc/pgbouncer/userlist.txt
--
-- users: names, separated by commas.
SELECT '"' || replace(rolname, '"', '""') || '" "' || rolpassword || '"'
FROM pg_authid
WHERE rolcanlogin AND rolpassword LIKE 'SCRAM-SHA-256$%' AND rolname = ANY (string_to_array(:'users', ','))
ORDER BY rolname;
