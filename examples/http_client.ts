/**
 * The client of `handoff_http.ts`: makes some requests, each on its own connection.
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
