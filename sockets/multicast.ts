/**
 * Memberships in multicast groups.
 *
 * @module
 */

/** Membership in an IPv4 multicast group, in the shape of Deno's. */
export interface MulticastV4Membership {
  /**
   * Leaves the group.
   *
   * @throws {WinsockError} WSAENOTSOCK if the socket was closed or given up, WSAEADDRNOTAVAIL if it is no member.
   */
  leave(): Promise<void>;
  /**
   * Sets whether this host's members get what is sent from this socket (`IP_MULTICAST_LOOP`): of any group. On Windows
   * the receiving socket decides.
   *
   * @param loopback Whether they do.
   */
  setLoopback(loopback: boolean): Promise<void>;
  /**
   * Sets how many routers what is sent from this socket may pass (`IP_MULTICAST_TTL`): to any group.
   *
   * @param ttl 0 to 255; 1 at first, which no router lets pass.
   */
  setTTL(ttl: number): Promise<void>;
}

/** Membership in an IPv6 multicast group, in the shape of Deno's. */
export interface MulticastV6Membership {
  /**
   * Leaves the group.
   *
   * @throws {WinsockError} WSAENOTSOCK if the socket was closed or given up, WSAEADDRNOTAVAIL if it is no member.
   */
  leave(): Promise<void>;
  /**
   * Sets whether this host's members get what is sent from this socket (`IPV6_MULTICAST_LOOP`): of any group. On Windows
   * the receiving socket decides.
   *
   * @param loopback Whether they do.
   */
  setLoopback(loopback: boolean): Promise<void>;
}
