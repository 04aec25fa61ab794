"""The site's configuration: frozen models, a loader that tells every error at once, and an example site."""
