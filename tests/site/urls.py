from tests.site import fault_views, views

urlpatterns = [*views.urlpatterns, *fault_views.urlpatterns]

__all__ = ["urlpatterns"]
