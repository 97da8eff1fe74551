// Tells the form of a plan the browser's time zone, in which its times are typed.

const zone = document.querySelector("input[name=zone]");
if (zone) zone.value = Intl.DateTimeFormat().resolvedOptions().timeZone;
