"""What a run finds outside itself: the hub, the disk, the devices, the libraries."""
