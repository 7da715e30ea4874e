from django.db import migrations

VISITORS = 20
ENTRIES = 300


def fill(apps, schema_editor):
    visitor_model = apps.get_model("guestbook", "Visitor")
    entry_model = apps.get_model("guestbook", "Entry")
    visitors = visitor_model.objects.bulk_create(
        visitor_model(name=f"Visitor {number}") for number in range(1, VISITORS + 1)
    )
    entry_model.objects.bulk_create(
        entry_model(visitor=visitors[number % VISITORS], text=f"Greeting number {number + 1}")
        for number in range(ENTRIES)
    )


class Migration(migrations.Migration):
    dependencies = (("guestbook", "0001_initial"),)

    operations = (migrations.RunPython(fill, migrations.RunPython.noop),)
