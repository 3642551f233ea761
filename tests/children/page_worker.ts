// Serves a page on the connections it is handed, and the WebSocket which that page opens. Both say who answers.
import { receive } from "@winsock/handoff";
import { serveHttp } from "@winsock/handoff/http";

const PAGE = `<!doctype html>
<title>Echo</title>
<p id="page">${Deno.pid}</p>
<input id="text"><button id="send">Send</button><button id="send-bytes">Send bytes</button>
<ol id="replies"></ol>
<script>
  const tell = (text) => document.querySelector("#replies").append(
    Object.assign(document.createElement("li"), { textContent: text })
  );
  const sum = (bytes) => bytes.reduce((total, byte) => total + byte, 0);
  let socket;
  function open() {
    socket = new WebSocket("ws://" + location.host + "/ws");
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => {
      const bytes = typeof data === "string" ? undefined : new Uint8Array(data);
      tell(bytes === undefined ? data : bytes.length + " bytes, sum " + sum(bytes));
    };
    socket.onclose = ({ code }) => {
      tell("closed " + code);
      setTimeout(open, 50);
    };
  }
  open();
  document.querySelector("#send").onclick = () => socket.send(document.querySelector("#text").value);
  document.querySelector("#send-bytes").onclick = () => {
    const bytes = Uint8Array.from({ length: 100_000 }, (_, index) => index % 256);
    tell("sending sum " + sum(bytes));
    socket.send(bytes);
  };
</script>
`;

await serveHttp(receive(), (request, info) => {
  if (!request.url.endsWith("/ws")) return new Response(PAGE, { headers: { "content-type": "text/html" } });
  const { socket, response } = info.upgradeWebSocket();
  socket.onopen = () => socket.send(`worker ${Deno.pid}`);
  socket.onmessage = ({ data }) => socket.send(typeof data === "string" ? `echo ${data}` : data);
  return response;
}, { keepAliveTimeout: 100 }).finished;
