// A process that waits, and does nothing else.
setInterval(() => {}, 60_000);
console.log("ready");
