"""Pages, a form with an upload, a download and a stream."""

from __future__ import annotations

import csv
import os

from django.http import FileResponse, Http404, JsonResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from notes.forms import NoteForm
from notes.models import Note


@require_GET
def index(request):
    """The latest notes."""
    return render(request, "notes/index.html", {"notes": Note.objects.all()[:20], "form": NoteForm()})


@require_http_methods(["GET", "POST"])
def create(request):
    """Shows the form again, with what is wrong, until it is right."""
    form = NoteForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        form.save()
        return redirect("index")
    return render(request, "notes/new.html", {"form": form}, status=400 if form.errors else 200)


@require_GET
def attachment(request, number):
    """A file of the disk: the server sends it with sendfile(2)."""
    note = get_object_or_404(Note, pk=number)
    if not note.attachment:
        raise Http404
    return FileResponse(note.attachment.open("rb"), as_attachment=True)


class _Line:
    """What csv writes to: it hands each line back."""

    def write(self, line):
        return line


@require_GET
def export(request):
    """All notes, one line at a time: the whole table is never in memory."""
    writer = csv.writer(_Line())

    def lines():
        yield writer.writerow(["id", "title", "text"])
        for note in Note.objects.order_by("id").iterator(chunk_size=100):
            yield writer.writerow([note.pk, note.title, note.text])

    return StreamingHttpResponse(lines(), content_type="text/csv")


@require_GET
def count(request):
    """For machines."""
    return JsonResponse({"notes": Note.objects.count(), "worker": os.getpid()})
