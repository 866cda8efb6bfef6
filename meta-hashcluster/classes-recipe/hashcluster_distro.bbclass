# For recipes that need this layer's changes of other recipes.

# Only such a function can skip a recipe.
# nooelint: oelint.task.noanonpython
python () {
    if 'hashcluster' not in d.getVar('DISTROOVERRIDES').split(':'):
        raise bb.parse.SkipRecipe('it needs DISTRO = "hashcluster"')
}
