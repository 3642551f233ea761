/** Providers by name, the same in source and target. */
import {
  defaultProvider,
  LayeredProvider,
  openNativeProvider,
  ProviderCatalog,
  type ServiceProvider,
} from "@winsock/handoff/spi";
import { NATIVE_ENTRY, NATIVE_PATH } from "./native.ts";

/** The name of a provider that works between processes. */
export type ProviderName = "system" | "chain" | "native";

export function openNamed(name: ProviderName): ServiceProvider {
  switch (name) {
    case "system":
      return defaultProvider();
    case "chain":
      return openChain(defaultProvider());
    case "native":
      return openNativeProvider(NATIVE_PATH, NATIVE_ENTRY);
  }
}

/** Two layers over a base. */
export function openChain(base: ServiceProvider): ServiceProvider {
  const catalog = new ProviderCatalog();
  const baseId = catalog.addBase(base);
  const layers = ["first layer", "second layer"].map((name) => {
    return catalog.addLayer(name, (id) => new LayeredProvider(catalog, id));
  });
  return catalog.open(catalog.addChain("two layers", [...layers, baseId]));
}
