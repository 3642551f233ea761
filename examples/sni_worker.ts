/**
 * A worker of `sni_router.ts`: terminates TLS with its own key, and answers.
 *
 * @module
 */
import { receive } from "@winsock/handoff";
import { serveHttp } from "@winsock/handoff/http";
import { CERTIFICATE } from "./certificate.ts";

const [name] = Deno.args;
const server = serveHttp(receive(), ({ url }) => new Response(`${url} from ${name}, process ${Deno.pid}\n`), {
  tls: CERTIFICATE,
});
await server.finished;
