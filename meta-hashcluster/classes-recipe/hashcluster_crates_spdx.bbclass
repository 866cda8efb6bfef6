# Crates in the SBOM. oe-core lists each as a source of the recipe, by its checksum, with the
# licence of the recipe. This class adds version, purl and own licence of each crate, and relations
# from the program's package to the crates linked into it.
#
# CRATE_LICENSES: "NAME VERSION EXPRESSION; ...", all fetched crates.
# CRATES_LINKED: "NAME-VERSION ...", crates linked into the program.

do_create_spdx[vardeps] += "CRATE_LICENSES CRATES_LINKED"
python do_create_spdx:append() {
    from pathlib import Path
    import oe.sbom30
    import oe.spdx30
    import oe.spdx_common

    deploy, arch = Path(d.getVar('SPDXDEPLOY')), d.getVar('SSTATE_PKGARCH')

    def document(subdir, name):
        path = oe.sbom30.jsonld_arch_path(d, arch, subdir, name, deploydir=deploy)
        return oe.sbom30.load_jsonld(d, path, required=True), path

    build, path = document('builds', 'build-' + d.getVar('PN'))
    license_data = oe.spdx_common.load_spdx_license_data(d)
    sources = {package.name: package for package in build.foreach_type(oe.spdx30.software_Package)}
    declared = {relation.from_: relation for relation in build.foreach_type(oe.spdx30.Relationship)
                if relation.relationshipType == oe.spdx30.RelationshipType.hasDeclaredLicense}
    for entry in d.getVar('CRATE_LICENSES').split(';'):
        if not entry.strip():
            continue
        name, version, expression = entry.split(maxsplit=2)
        crate = sources[f'{name}-{version}.crate']
        crate.software_packageVersion = version
        crate.software_packageUrl = f'pkg:cargo/{name}@{version}'.replace('+', '%2B')
        declared[crate].to = [build.new_license_expression(expression.strip(), license_data)]

    package, _ = document('packages-staging', 'package-' + d.getVar('PN'))
    program = package.find_root(oe.spdx30.software_Package, name=d.getVar('PN'))
    build.new_scoped_relationship(
        [oe.sbom30.get_element_link_id(program)],
        oe.spdx30.RelationshipType.hasStaticLink,
        oe.spdx30.LifecycleScopeType.build,
        [sources[f'{crate}.crate'] for crate in sorted(d.getVar('CRATES_LINKED').split())],
    )
    oe.sbom30.write_jsonld_doc(d, build, path)
}
