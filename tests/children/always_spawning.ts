// Starts processes that have its stdout, and ends them, one after the other.
console.log("starts");
for (;;) {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["eval", ""],
    stdin: "null",
    stdout: "inherit",
    stderr: "null",
  }).spawn();
  child.kill("SIGKILL");
  await child.status;
}
