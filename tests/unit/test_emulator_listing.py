"""Files of the emulated Windows by their paths."""

from __future__ import annotations

from dataclasses import dataclass

from drakcelery.engines.speakeasy_guest.machine.listing import MAX_PATH, Listing


@dataclass(eq=False)
class Named:
    """A file, as far as it is looked at."""

    path: str

    def get_path(self) -> str:
        """Where it is."""
        return self.path


def test_a_file_is_found_by_its_path() -> None:
    """In any case; the first one of a name stays, until it is removed or renamed."""
    listing = Listing()
    one, same, other = Named("C:\\A\\b.txt"), Named("c:\\a\\B.txt"), Named("C:\\A\\c.txt")
    for file in (one, same, other):
        listing.append(file)
    assert list(listing) == [one, other]
    assert listing.find("C:\\a\\B.TXT") is one
    listing.remove(same)
    assert listing.find("C:\\a\\B.TXT") is one
    listing.rename(one, "C:\\D\\e.txt")
    assert listing.find("C:\\A\\b.txt") is None
    assert listing.find("c:\\d\\e.txt") is one
    listing.remove(one)
    assert list(listing) == [other]


def test_a_folder_is_where_a_file_lies() -> None:
    """At any depth, as long as there is one; the drive and the file itself are none."""
    listing = Listing()
    one, two = Named("C:\\A\\B\\c.txt"), Named("C:\\A\\d.txt")
    listing.append(one)
    listing.append(two)
    assert all(listing.is_folder(path) for path in ("c:\\a", "C:\\A\\B"))
    assert not any(listing.is_folder(path) for path in ("C:", "C:\\A\\d.txt", "C:\\X"))
    listing.remove(one)
    assert not listing.is_folder("C:\\A\\B")
    assert listing.is_folder("C:\\A")
    listing.remove(two)
    assert not listing.is_folder("C:\\A")


def test_a_path_of_many_folders_takes_little() -> None:
    """Only so much of a path is remembered as folders."""
    listing = Listing()
    listing.append(Named("C:" + "\\a" * 16_000))
    assert listing.is_folder("C:" + "\\a" * (MAX_PATH // 2 - 2))
    assert not listing.is_folder("C:" + "\\a" * 1000)
