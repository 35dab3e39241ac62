import type { StatusName } from "./errors.ts";

const REASONS: readonly (readonly [RegExp, string])[] = [
  [/ECONNREFUSED/, "nothing listens there"],
  [/ECONNRESET/, "the connection was lost"],
  [/ETIMEDOUT|Connection dropped/, "it does not answer"],
  [/EHOSTUNREACH|ENETUNREACH/, "the host cannot be reached"],
  [/ENOTFOUND|EAI_AGAIN|Name resolution failed/, "the host's name is not known"],
];

/** What one side of TLS holds against the other: waiting does not mend it. */
const TLS_FAULTS: readonly (readonly [RegExp, string])[] = [
  [
    /issuer certificate|first certificate|self.signed/i,
    "no authority that is trusted here signed its certificate",
  ],
  [/ALTNAME_INVALID/, "its certificate is for other names"],
  [/expired|not yet valid/i, "its certificate is not valid today"],
  [/CertificateRequired/, "it wants a certificate of its callers"],
  [/unsupported protocol/, "the certificate and key shown to it do not belong together"],
  [/InvalidContentType|wrong version number/, "it does not speak TLS"],
];

/**
 * What is wrong with a connection, for people, from the gRPC library's words; undefined where these are about something
 * else. FAILED_PRECONDITION for what waiting does not mend.
 */
export function connectionFault(
  words: string,
  { address, secure }: { readonly address: string; readonly secure: boolean },
): { readonly status: StatusName; readonly message: string } | undefined {
  const [, last] =
    /^No connection established\. Last error: (.*)\. Resolution note: $/s.exec(words) ??
      /^(Name resolution failed|Connection dropped)/.exec(words) ?? [];
  if (last === undefined) return undefined;
  const said = ([pattern]: readonly [RegExp, string]) => pattern.test(last);
  const refused = secure ? TLS_FAULTS.find(said)?.[1] : undefined;
  const names = /.*(?:altnames|cert's list): (.+)$/.exec(last)?.[1];
  const reason = refused ?? REASONS.find(said)?.[1] ?? (
    last.startsWith("Failed to connect")
      ? secure
        ? "it ended the handshake; it may not accept the certificate shown to it"
        : "it ended the connection at once; an address with TLS begins with grpcs://"
      : last
  );
  return {
    status: refused === undefined ? "UNAVAILABLE" : "FAILED_PRECONDITION",
    message: `Cannot connect to ${address}: ${reason}${names === undefined ? "" : `: ${names}`}`,
  };
}
