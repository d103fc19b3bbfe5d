"""What keeps promotions honest, beside serving. `watch.py` is the story, and has the map."""
