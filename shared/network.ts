import { isIPv6 } from "node:net";
import { ipToBytes } from "./ip-address.ts";

/** Whoever has one IPv6 address has a /64 of them (RFC 6177); an IPv4 address is itself. */
export function networkOf(address: string): string {
  const bytes = isIPv6(address) ? ipToBytes(address) : null;
  if (bytes === null || bytes.length !== 16) return address;
  const isMapped = bytes.subarray(0, 12).toString("hex") === "00000000000000000000ffff";
  return isMapped ? [...bytes.subarray(12)].join(".") : `${bytes.subarray(0, 8).toString("hex")}/64`;
}
