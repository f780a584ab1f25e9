"""How the demo's tiny model was made."""
