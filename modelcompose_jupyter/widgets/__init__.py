"""What a notebook shows and a person touches: panels, and runs as they go."""
