"""Every global-context operator behind one interface: `registry` knows them by name."""
