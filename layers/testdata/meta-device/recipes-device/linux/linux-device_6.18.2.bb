require linux-device.inc
