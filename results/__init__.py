"""Result files: where they lie, reading and checking them, and the scores with intervals that they hold."""
