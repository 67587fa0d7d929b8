"""The one path for a write: send what is ready, until it is known whether it is stored."""
