/** The routes that are mounted in an Express application: `GET /v1/tokens/:id`. */
import type { Express } from "express";

/** What this knows of Express's inside. */
interface Router {
  readonly stack: readonly Layer[];
}

interface Layer {
  readonly route?: { readonly path: string; readonly methods: Readonly<Record<string, boolean>> };
  readonly handle: Partial<Router>;
  readonly rawPath: string;
}

export function routesOf(app: Express): string[] {
  return routesIn(app.router as unknown as Router, "");
}

function routesIn(router: Router, prefix: string): string[] {
  return router.stack.flatMap((layer) => {
    if (layer.route !== undefined) {
      const { path, methods } = layer.route;
      return Object.keys(methods).map((method) => `${method.toUpperCase()} ${prefix}${path}`);
    }
    if (layer.handle.stack === undefined) return [];
    return routesIn({ stack: layer.handle.stack }, `${prefix}${layer.rawPath === "/" ? "" : layer.rawPath}`);
  });
}
