"""Relations in the wordings of a chat, by theme (`relations_told` has them all), and the words they need."""
