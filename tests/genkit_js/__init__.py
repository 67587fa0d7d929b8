"""The live Genkit JS on the other side of a collection or of the wire."""
