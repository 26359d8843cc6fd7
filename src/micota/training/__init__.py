"""What a fine-tuning is made of: rows and steps, TRL's settings, what watches it, and how its weights are written."""
