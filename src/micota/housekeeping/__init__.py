"""What a store holds, what runs in it, and what can go."""
