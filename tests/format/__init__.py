"""What is stored, compared whole with raw documents and golden ones."""
