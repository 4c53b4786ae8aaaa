import manifest from "./package.json" with { type: "json" };

/** Of the package this file came in; imported, so that the single executable carries it inside. */
export const { version } = manifest;
