"""Music as text: tunes in ABC notation, how much they are like real ones, and their files."""
