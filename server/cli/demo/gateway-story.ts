/** What has happened to the gateway's leaves, put together from three witnesses: the service, the gateway and a client. */
export interface GatewayStory {
  issued(leaf: { readonly fingerprint: string }): void;
  reloaded(): void;
  /** By the client, in a verified handshake. */
  served(fingerprint: string): void;
  /** First used: the agent has seen it served and reported it. */
  confirmed(fingerprint: string): void;
  /** Leaves that went the whole way, in order. */
  complete(): readonly string[];
  /** Whole renewals: issued, reloaded, served, confirmed. */
  renewals(): number;
}

interface Chapter {
  readonly fingerprint: string;
  readonly isFirst: boolean;
  /** Reloads before it was issued. */
  readonly reloadsBefore: number;
  served: boolean;
  confirmed: boolean;
}

export function createGatewayStory(): GatewayStory {
  const chapters: Chapter[] = [];
  const find = (fingerprint: string): Chapter | undefined =>
    chapters.find((chapter) => chapter.fingerprint === fingerprint);
  let reloads = 0;
  const complete = (): Chapter[] =>
    chapters.filter(
      (chapter) => chapter.served && chapter.confirmed && (chapter.isFirst || reloads > chapter.reloadsBefore),
    );
  return {
    issued: ({ fingerprint }) =>
      void chapters.push({
        fingerprint,
        isFirst: chapters.length === 0,
        reloadsBefore: reloads,
        served: false,
        confirmed: false,
      }),
    reloaded: () => void (reloads += 1),
    served(fingerprint) {
      const chapter = find(fingerprint);
      if (chapter !== undefined) chapter.served = true;
    },
    confirmed(fingerprint) {
      const chapter = find(fingerprint);
      if (chapter !== undefined) chapter.confirmed = true;
    },
    complete: () => complete().map(({ fingerprint }) => fingerprint),
    renewals: () => complete().filter((chapter) => !chapter.isFirst).length,
  };
}
