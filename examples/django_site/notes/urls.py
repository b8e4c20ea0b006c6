"""The pages of the notes."""

from __future__ import annotations

from django.urls import path

from notes import views

urlpatterns = [
    path("", views.index, name="index"),
    path("new/", views.create, name="create"),
    path("<int:number>/file/", views.attachment, name="attachment"),
    path("notes.csv", views.export, name="export"),
    path("count/", views.count, name="count"),
]
