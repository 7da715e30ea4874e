from django import forms
from django.db import transaction

from .models import Entry, Visitor


class SignForm(forms.Form):
    name = forms.CharField(max_length=60)
    text = forms.CharField(max_length=200)

    def save(self) -> Entry:
        """Both rows or none."""
        with transaction.atomic():
            visitor, _ = Visitor.objects.get_or_create(name=self.cleaned_data["name"])
            return Entry.objects.create(visitor=visitor, text=self.cleaned_data["text"])
