"""One thin module for each framework, on top of RequestGuard. Each needs its extra."""
