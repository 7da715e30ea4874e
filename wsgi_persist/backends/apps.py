"""``INSTALLED_APPS = ["wsgi_persist.backends"]``: the checks also run where no ENGINE of ours is loaded."""

from django.apps import AppConfig

from wsgi_persist.backends.checks import register


class PersistConfig(AppConfig):
    name = "wsgi_persist.backends"
    label = "wsgi_persist"
    verbose_name = "wsgi_persist"

    def ready(self) -> None:
        register()
