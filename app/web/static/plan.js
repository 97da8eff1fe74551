// Tells the form of a plan, or of a pin, the browser's time zone, in which its times are typed.

const zone = document.querySelector("input[name=zone]");
if (zone) zone.value = Intl.DateTimeFormat().resolvedOptions().timeZone;
