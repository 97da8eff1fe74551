"""Pull-through cache: fetch an upstream's content once, keep it while there is room, and stay within its limit."""
