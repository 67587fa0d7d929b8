"""Keep the state of running flows in Google Cloud Firestore."""

__version__ = "0.1.0.dev0"
