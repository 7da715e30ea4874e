from django.db import models


class Visitor(models.Model):
    name = models.CharField(max_length=60, unique=True)

    def __str__(self) -> str:
        return self.name


class Entry(models.Model):
    visitor = models.ForeignKey(Visitor, on_delete=models.CASCADE, related_name="entries")
    text = models.CharField(max_length=200)
    written = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        ordering = ("-written", "-pk")
        verbose_name_plural = "entries"

    def __str__(self) -> str:
        return f"{self.visitor}: {self.text}"
