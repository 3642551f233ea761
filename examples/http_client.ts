/**
 * The client of `handoff_http.ts`: some requests, each on a connection of its own.
 *
 * @module
 */
const [url = "", count = "1"] = Deno.args;

for (let request = 1; request <= Number(count); request++) {
  const response = await fetch(`${url}/client-${request}`, { headers: { connection: "close" } });
  console.log(
    `    client ${String(Deno.pid).padEnd(6)} GET /client-${request}: ${response.status} ${
      (await response.text()).trim()
    }\n`,
  );
}
