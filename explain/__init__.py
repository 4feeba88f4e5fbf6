"""Read trained masks: which features they selected, what each does to the score, and how many are needed."""
