"""What every layer above needs: clocks, files, events, checks of arguments, the blocking portal."""
