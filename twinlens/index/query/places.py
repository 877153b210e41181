"""Distances between places given as degrees of latitude and longitude."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

LATITUDE, LONGITUDE = "latitude", "longitude"  # the fields of an item
EARTH_KM = 6371.0088  # mean radius

Degrees = npt.NDArray[np.float64]


def measure_km(
    latitude: float, longitude: float, latitudes: Degrees, longitudes: Degrees
) -> Degrees:
    """Return the distance of each place along the ground, by a sphere: to 0.5 %."""
    here, there = np.radians(latitude), np.radians(latitudes)
    north, east = there - here, np.radians(longitudes - longitude)
    chord = np.sin(north / 2) ** 2 + np.cos(here) * np.cos(there) * np.sin(east / 2) ** 2
    return np.asarray(2 * EARTH_KM * np.arcsin(np.sqrt(np.clip(chord, 0, 1))))
