/** What a handshake alone costs: Node's https with the agents listener's TLS and nothing behind it. A child process; takes the options as a message, answers its port. */
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import type { SecureContextSettings } from "../../server/http/tls.ts";

process.once("message", (tls: SecureContextSettings) => {
  const options = { ...tls, requestCert: true, rejectUnauthorized: false, ALPNProtocols: ["http/1.1"] };
  const server = createServer(options, (request, response) => {
    const verified = "authorized" in request.socket && request.socket.authorized === true;
    response.statusCode = verified ? 200 : 403;
    response.end("ok");
  });
  server.listen(0, "127.0.0.1", () => process.send?.((server.address() as AddressInfo).port));
});
