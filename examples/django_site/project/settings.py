"""Settings of the example. Data goes to NOTES_DATA, or beside manage.py."""

from __future__ import annotations

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = Path(os.environ.get("NOTES_DATA", BASE_DIR))

DEBUG = os.environ.get("NOTES_DEBUG") == "1"
# Every worker must have the same key, or one would not know the cookies of another. This one is public,
# so it is good for an example on this machine and for nothing else.
SECRET_KEY = os.environ.get("NOTES_SECRET_KEY", "an-example-that-everybody-can-read")
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]", *os.environ.get("NOTES_HOSTS", "").split()]

INSTALLED_APPS = ["notes"]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "project.urls"
WSGI_APPLICATION = "project.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    },
]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATA_DIR / "db.sqlite3",
        # Many threads of several workers write to one file: let them wait for each other.
        "OPTIONS": {"timeout": 20},
    },
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

MEDIA_ROOT = DATA_DIR / "media"
FILE_UPLOAD_MAX_MEMORY_SIZE = 256 * 1024
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024

USE_TZ = True
# Django sets the zone of the whole process, and with it that of the log lines.
TIME_ZONE = "UTC"
