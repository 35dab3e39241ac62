/** A service that goes wrong as its first word says: "fails" before it is ready, "ends" behind it, or "hangs". */
const [fault, ...rest] = Deno.args;
if (fault === "fails") {
  console.error("The port is in use");
  Deno.exit(1);
}
console.error(JSON.stringify({ msg: "Serving", rest }));
// Nothing listens there.
console.log(JSON.stringify({ event: "ready", address: "127.0.0.1:1" }));
if (fault === "hangs") setInterval(() => {}, 1000);
