from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from .forms import SignForm
from .models import Entry

# A small page's queries, so that what is measured is the way to the database.
THREE = (
    "SELECT count(*) FROM guestbook_visitor",
    "SELECT name FROM guestbook_visitor WHERE id = 1",
    "SELECT text FROM guestbook_entry WHERE id = 1",
)


@require_safe
def entries(request: HttpRequest) -> HttpResponse:
    latest = Entry.objects.select_related("visitor")[:25]
    return render(request, "guestbook/entries.html", {"entries": latest})


@require_http_methods(["GET", "HEAD", "POST"])
def sign(request: HttpRequest) -> HttpResponse:
    form = SignForm(request.POST or None)
    if form.is_valid():
        form.save()
        return redirect("entries")
    return render(request, "guestbook/sign.html", {"form": form})


@require_safe
def three(request: HttpRequest) -> JsonResponse:
    answers = []
    with connection.cursor() as cursor:
        for query in THREE:
            cursor.execute(query)
            answers.append(cursor.fetchone())
    return JsonResponse({"answers": answers})


@require_safe
def plain(request: HttpRequest) -> HttpResponse:
    return HttpResponse("no query\n", content_type="text/plain")
