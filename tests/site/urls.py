from tests.site.views import urlpatterns

__all__ = ["urlpatterns"]
