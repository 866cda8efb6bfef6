# For recipes that make sense only beside what this layer changes in recipes of others.

# A recipe can be skipped by such a function only.
# nooelint: oelint.task.noanonpython
python () {
    if 'hashcluster' not in d.getVar('DISTROOVERRIDES').split(':'):
        raise bb.parse.SkipRecipe('it needs DISTRO = "hashcluster"')
}
