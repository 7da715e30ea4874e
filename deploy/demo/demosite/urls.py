from django.urls import path
from guestbook import views

urlpatterns = [
    path("", views.entries, name="entries"),
    path("sign/", views.sign, name="sign"),
    path("three/", views.three, name="three"),
    path("plain/", views.plain, name="plain"),
]
