from tests.site import bench_views, fault_views, views

urlpatterns = [*views.urlpatterns, *fault_views.urlpatterns, *bench_views.urlpatterns]

__all__ = ["urlpatterns"]
