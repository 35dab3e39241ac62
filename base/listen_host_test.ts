import assert from "node:assert/strict";
import { InputError } from "./input_error.ts";
import { listenHost } from "./listen_host.ts";

Deno.test("A host to listen on is taken with or without brackets, and a path or a port is refused", () => {
  for (
    const [given, host] of [
      ["127.0.0.1", "127.0.0.1"],
      ["::1", "::1"],
      ["[::1]", "::1"],
      ["[fe80::1%eth0]", "fe80::1%eth0"],
      ["localhost", "localhost"],
      ["0.0.0.0", "0.0.0.0"],
    ] as const
  ) assert.equal(listenHost(given), host);
  const refused: readonly (readonly [string, RegExp])[] = [
    [
      "unix:/tmp/s",
      /Host is "unix:\/tmp\/s", expected a name or an address: servers here listen on TCP/,
    ],
    ["/tmp/s", /listen on TCP, not on paths/],
    ["./s", /listen on TCP, not on paths/],
    ["http://a", /expected a name or an address, such as/],
    ["", /expected a name or an address, such as/],
    ["[::1", /expected a name or an address, such as/],
    ["localhost:80", /expected no port behind it; the port is an option of its own/],
  ];
  for (const [given, message] of refused) {
    assert.throws(
      () => listenHost(given),
      (error) => error instanceof InputError && message.test(error.message),
    );
  }
});
