"""The fault bench: real processes are killed, disks forget, fill up and flip bits; then what must hold is checked."""
