/**
 * The `Request` that handlers get.
 *
 * @module
 */
import { NodeRequest } from "./packages.ts";

/**
 * The adapter's request, which Deno's own functions take too: `new Request(request)`, `fetch(request)`, the Cache API.
 *
 * They look for their own properties, named by symbols. The first look makes the real `Request` that has them; handlers
 * which never do that do not pay for it.
 */
export class HttpRequest extends NodeRequest {}

for (const symbol of Object.getOwnPropertySymbols(new Request("http://localhost"))) {
  Object.defineProperty(HttpRequest.prototype, symbol, {
    get(this: { _request: Record<symbol, unknown> }) {
      return this._request[symbol];
    },
    set(this: { _request: Record<symbol, unknown> }, value: unknown) {
      this._request[symbol] = value;
    },
  });
}
